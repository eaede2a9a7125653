"""A registry for looking up the samples of collectors."""

from prometheus_client.registry import Collector, CollectorRegistry


def make_registry(*collectors: Collector) -> CollectorRegistry:
    """Return a registry that has only these collectors."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    for collector in collectors:
        registry.register(collector)
    return registry
