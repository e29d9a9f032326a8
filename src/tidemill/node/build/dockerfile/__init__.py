"""From a folder with a Dockerfile to an image: buildah builds, and what it has built is packed as an image of ours."""
