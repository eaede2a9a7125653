# docker build -t bms-exporter . && docker run --rm -p 12200:12200 bms-exporter demo
# Real batteries, over the kernel's own sockets:
#   docker run --network host --cap-drop ALL --read-only -v ./config.yaml:/config.yaml:ro bms-exporter
# Batteries are let go at once with --user 0 --cap-add NET_ADMIN: Docker gives a capability to root alone.
# The host's network, because Bluetooth sockets exist nowhere else. For link: bluez add
#   -v /run/dbus/system_bus_socket:/run/dbus/system_bus_socket --security-opt apparmor=unconfined
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/bms-exporter \
    && /opt/bms-exporter/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md CONTRIBUTING.md config.example.yaml ./
COPY docs docs
COPY tests tests
COPY exporter exporter
RUN /opt/bms-exporter/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && /opt/bms-exporter/bin/python -m compileall -q /opt/bms-exporter

FROM python:3.13-slim-bookworm
COPY --from=build /opt/bms-exporter /opt/bms-exporter
ENV PATH=/opt/bms-exporter/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
EXPOSE 12200
HEALTHCHECK --interval=60s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:12200/-/healthy', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["bms-exporter"]
CMD ["--config.file", "/config.yaml"]
