# syntax=docker/dockerfile:1
#
# Handover's image.
#
#   docker build --tag handover .
#   docker build --tag handover-demo --build-arg FEATURES=sandbox .      with the sandbox; never for production
#
# Both base images are arguments, so that a site can pin them by digest or take them from its own registry:
#   --build-arg RUST_IMAGE=docker.io/library/rust@sha256:… --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian12@sha256:…
#
# The final image is distroless: glibc, root certificates, time zones, and no shell or package manager, so there is next to
# nothing to patch or to misuse. It is not `scratch`, since the program is linked against glibc as it is everywhere else; a
# static build would be another program than the one that is tested. It is of the same Debian as the builder, for glibc's sake.

ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS builder
WORKDIR /build
ENV CARGO_TARGET_DIR=/build/target
COPY scripts/release scripts/release
RUN scripts/release tools
# The dependencies are a layer of their own: they change seldom and take most of the time.
ARG FEATURES=""
COPY Cargo.toml Cargo.lock ./
RUN scripts/release dependencies
COPY migrations migrations
COPY benches benches
COPY src src
ARG SOURCE_DATE_EPOCH=0
# The last of it makes the folder that a volume takes its owner from.
RUN scripts/release binary && scripts/release sbom && scripts/release sums && mkdir /build/data

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="Handover" \
      org.opencontainers.image.description="Remembers who holds each shared iPad, and revokes the previous holder's Entra ID tokens" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /build/target/released/handover /usr/bin/handover
COPY --from=builder /build/target/released/handover.cdx.json /build/target/released/SHA256SUMS /usr/share/handover/
COPY deploy/container/handover.toml /etc/handover/handover.toml
COPY --from=builder --chown=65532:65532 /build/data /var/lib/handover
# By number, so that an orchestrator can see that it is not root. Nothing but the volume is ever written to.
USER 65532:65532
WORKDIR /var/lib/handover
VOLUME ["/var/lib/handover"]
EXPOSE 8080 8081
# There is no shell and no curl: the program asks itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/bin/handover", "health", "--ready", "--config", "/etc/handover/handover.toml"]
ENTRYPOINT ["/usr/bin/handover"]
CMD ["serve", "--config", "/etc/handover/handover.toml"]
