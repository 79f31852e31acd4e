# The image of SPORK CA: the locked dependencies and the wheel, in an environment of its own, run by a user without privileges.
# Build: docker build --tag spork-ca:0.1.0 .
FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN ["python", "-m", "venv", "/opt/spork"]
WORKDIR /build
COPY requirements-image.lock ./
RUN ["/opt/spork/bin/pip", "install", "--require-hashes", "--requirement", "requirements-image.lock"]
COPY . .
RUN ["/opt/spork/bin/pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "."]

FROM python:3.13-slim-bookworm
COPY --from=build /opt/spork /opt/spork
ENV PATH=/opt/spork/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["spork"]
CMD ["--help"]
