# The image of beacon-relay: one binary, its data in /data, nobody's root.
#
#   docker build -t beacon-relay .
#   docker run -p 8080:8080 -v relay-data:/data beacon-relay serve
#
# TLS roots are compiled in (webpki-roots), so the image needs no certificate store.

# The toolchain of rust-toolchain.toml; tests/tidy.rs keeps the two alike.
FROM rust:1.95-slim-bookworm AS build
# The allocator's own build runs on make.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends make >/dev/null \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Dependencies are built from the two manifests alone, so that a change of ours keeps their layer.
# Cargo reads no manifest whose benches are missing, so each has a file, here and below.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src benches \
 && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs \
 && for name in $(sed -n '/^\[\[bench\]\]/,/^$/s/^name = "\(.*\)"$/\1/p' Cargo.toml); do \
      cp src/main.rs "benches/$name.rs"; \
    done \
 && cargo build --release --locked \
 && cargo clean --release --locked --package beacon-relay
COPY . .
RUN cargo build --release --locked --bin beacon-relay

FROM debian:bookworm-slim AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="beacon-relay" \
      org.opencontainers.image.description="A durable relay between a shop's apps and tills and the ad platform's events API" \
      org.opencontainers.image.source="https://github.com/beacon-relay/beacon-relay" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A volume made from the image takes over the folder's owner, so the user can write to it.
RUN groupadd --gid 10001 relay \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin relay \
 && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /build/target/release/beacon-relay /usr/local/bin/beacon-relay
# In a container the outside of the namespace is the border: both listeners answer beyond loopback.
# `serve` then asks for clients or for an explicit auth = "open", and the admin API for its token.
ENV BEACON_RELAY_SERVER__LISTEN=0.0.0.0:8080 \
    BEACON_RELAY_ADMIN__LISTEN=0.0.0.0:9090 \
    BEACON_RELAY_SPOOL__PATH=/data
# By number, so that a cluster's rule against root can see that it is none.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["beacon-relay", "health"]
ENTRYPOINT ["beacon-relay"]
CMD ["serve"]
