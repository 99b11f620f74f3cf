# A prebuilt llama-server for the testbed. It runs on the CPU, and on Mesa's software Vulkan device
# where GGML_VK_VISIBLE_DEVICES=0 asks for it.
FROM docker.io/library/python:3.13-slim-trixie
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 mesa-vulkan-drivers \
    && rm -rf /var/lib/apt/lists/*
COPY . /opt/llama-server
ENV PATH=/opt/llama-server:/usr/local/bin:/usr/bin:/bin
