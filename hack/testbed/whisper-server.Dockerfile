# The testbed's stand-in for whisper.cpp's image: its server, built for the CPU.
FROM docker.io/library/python:3.13-slim-trixie
COPY whisper-server /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["whisper-server"]
