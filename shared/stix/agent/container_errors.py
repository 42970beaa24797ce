"""What an engine's complaints mean, in words that name the fix."""

from __future__ import annotations

from .engine import complaint

_LOGIN = (
    "Give SKYPILOT_DOCKER_USERNAME, SKYPILOT_DOCKER_PASSWORD and SKYPILOT_DOCKER_SERVER with --secret, "
    "or correct them"
)
_MISSING = ("manifest unknown", "not found", "name unknown", "no such image", "does not exist")
_DENIED = ("unauthorized", "authentication required", "denied", "no basic auth", "403 forbidden")
_UNREACHABLE = (
    "no such host",
    "connection refused",
    "i/o timeout",
    "timeout",
    "network is unreachable",
    "dial tcp",
)


def login_words(server: str, words: str) -> str:
    where = server or "Docker Hub"
    low = words.lower()
    if any(word in low for word in _DENIED):
        return f"{where} refuses the login ({complaint(words)}). {_LOGIN}."
    return f"The login to {where} failed: {complaint(words)}. Look at SKYPILOT_DOCKER_SERVER."


def pull_words(image: str, words: str) -> str:
    said = complaint(words)
    low = words.lower()
    if "no matching manifest" in low or "no image found in manifest list" in low:
        return f"The image {image} is not made for this machine ({said}). Use another one."
    if "invalid reference format" in low:
        return f"{image} is not the name of an image ({said}). Write docker:NAME:TAG."
    if "no space left" in low:
        return f"The image {image} does not fit on the node's disk. Ask for more with resources.disk_size."
    # Docker Hub answers "denied" for what does not exist as well, and the words name both.
    if any(word in low for word in _DENIED):
        return f"The image {image} may not be pulled, or does not exist ({said}). Check its name. {_LOGIN}."
    if any(word in low for word in _UNREACHABLE):
        return f"The registry of {image} cannot be reached ({said}). Check its name and the network."
    if any(word in low for word in _MISSING):
        return f"There is no image {image} ({said}). Check the name and the tag in image_id."
    return f"The image {image} could not be pulled: {said}."


def start_words(image: str, words: str) -> str:
    said = complaint(words)
    low = words.lower()
    if "could not select device driver" in low or "nvidia-container" in low or "nvidia.com/gpu" in low:
        return (
            f"The engine cannot give GPUs to a container ({said}). Install NVIDIA's container toolkit on the "
            "node, or use a machine image that has it."
        )
    if "/bin/sh" in low and ("no such file" in low or "not found" in low):
        return f"The image {image} has no /bin/sh, which runs a task's scripts. Use an image with a shell."
    if (
        "unknown flag" in low
        or "invalid argument" in low
        or "unknown shorthand" in low
        or "conflicting options" in low
    ):
        return f"The engine refuses the options ({said}). Look at config.docker.run_options."
    if "exec format error" in low:
        return f"The image {image} is not made for this machine's processor. Use another one."
    return f"The container of {image} could not be started: {said}."
