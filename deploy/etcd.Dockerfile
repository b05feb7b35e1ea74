# etcd as Debian packages it. Its own images are published where not every network lets one go.
FROM debian:13-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends etcd-client etcd-server \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o etcd -g etcd -m 700 /data
USER etcd
VOLUME /data
EXPOSE 2379 2380
ENTRYPOINT ["etcd", "--data-dir", "/data"]
