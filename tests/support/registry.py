"""Collectors behind prometheus_client's look-up of one sample."""

from prometheus_client.registry import Collector, CollectorRegistry


def make_registry(*collectors: Collector) -> CollectorRegistry:
    """Return a registry of their own for these collectors."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    for collector in collectors:
        registry.register(collector)
    return registry
