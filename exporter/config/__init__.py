"""The configuration file; `web` is the file of --web.config.file."""

from exporter.config.loader import load
from exporter.config.schema import Config

__all__ = ["Config", "load"]
