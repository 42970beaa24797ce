"""What Kubernetes says, and what each of its words means for whoever wants pods.

Sources: ``metav1.StatusReason`` for what the API server refuses; for pods that it took, the conditions and
reasons of ``PodStatus`` and ``ContainerStateWaiting``, the kubelet's admission, and the events of the cluster
autoscaler.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stix.model.errors import (
    CredentialsError,
    InvalidRequestError,
    NoCapacityError,
    ProviderError,
    QuotaExceededError,
    StixError,
    ThrottledError,
    UnavailableError,
)

__all__ = ["POD_REFUSALS", "REFUSALS", "refusal", "refusal_of", "translated"]

POD_REFUSALS: Mapping[str, type[ProviderError]] = {
    # The scheduler finds no node, and no autoscaler will bring one.
    "Unschedulable": NoCapacityError,
    "NotTriggerScaleUp": NoCapacityError,
    # The kubelet, when the node filled up between the scheduler's choice and the pod's arrival.
    "OutOfcpu": NoCapacityError,
    "OutOfmemory": NoCapacityError,
    "OutOfpods": NoCapacityError,
    "OutOfephemeral-storage": NoCapacityError,
    "OutOfnvidia.com/gpu": NoCapacityError,
    "OutOfamd.com/gpu": NoCapacityError,
    "NodeAffinity": NoCapacityError,
    "UnexpectedAdmissionError": NoCapacityError,
    # The image, or how the container is described.
    "ErrImagePull": InvalidRequestError,
    "ImagePullBackOff": InvalidRequestError,
    "ErrImageNeverPull": InvalidRequestError,
    "InvalidImageName": InvalidRequestError,
    "CreateContainerConfigError": InvalidRequestError,
    "CreateContainerError": InvalidRequestError,
}
"""Of a pod that was accepted."""
REFUSALS: Mapping[str, type[ProviderError]] = {
    "Unauthorized": CredentialsError,
    "Forbidden": CredentialsError,
    # Refusals with the reason Forbidden that are none of rights, told by their words: a ResourceQuota or a
    # LimitRange; an admission rule; a quota so new that nobody has counted yet.
    "ExceededQuota": QuotaExceededError,
    "Denied": InvalidRequestError,
    "QuotaUnknown": ThrottledError,
    "TooManyRequests": ThrottledError,
    # A quota that was changed at the same moment: the same again.
    "Conflict": ThrottledError,
    "BadRequest": InvalidRequestError,
    "Invalid": InvalidRequestError,
    "NotFound": InvalidRequestError,
    "MethodNotAllowed": InvalidRequestError,
    "RequestEntityTooLarge": InvalidRequestError,
    **POD_REFUSALS,
}
_RETRY_SECONDS = 2.0
_ADMISSION = re.compile(r'\S+ "[^"]+" is forbidden: (?!User )|admission webhook ')
"""How admission refuses; a missing right is the user's: ``pods is forbidden: User "x" cannot create ...``."""
_HINTS = {
    "NotFound": "Make the namespace, or name another in clouds.kubernetes.namespace.",
    "Forbidden": "Give it the role in docs/clouds/kubernetes.md.",
    "Unauthorized": "Renew the credentials of the kubeconfig; see docs/clouds/kubernetes.md.",
    "Denied": "A rule of the cluster or the namespace refuses it: ask its owner, or change what it names.",
    "ExceededQuota": "Ask the owner of the namespace for more, or end what is not needed.",
}


def refusal_of(reason: str) -> StixError:
    """The error that a machine's reason, ``code: words``, means."""
    code, _, words = reason.partition(": ")
    return refusal(code, words or reason)


def refusal(code: str, words: str, *, retry_after: float = _RETRY_SECONDS) -> StixError:
    """The error that a reason and its words mean."""
    if code == "Forbidden":
        code = _forbidden(words)
    text = f"{words.rstrip('.')} ({code})."
    kind = REFUSALS.get(code)
    if kind is None:
        return UnavailableError(f"Kubernetes did not say what became of it: {text}")
    if kind is ThrottledError:
        return ThrottledError(text, retry_after=retry_after, provider_code=code)
    make: Callable[..., StixError] = kind
    return make(text, hint=_HINTS.get(code, ""), provider_code=code)


def _forbidden(words: str) -> str:
    if "status unknown for quota" in words:
        return "QuotaUnknown"
    if any(said in words for said in ("exceeded quota", " usage per ", "limit to request ratio per ")):
        return "ExceededQuota"
    return "Denied" if _ADMISSION.match(words) else "Forbidden"


@contextmanager
def translated(*absent: str) -> Iterator[None]:
    """Turn the SDK's errors into ours. ``absent``: reasons that are no errors here: the thing is gone, or was
    made already."""
    import urllib3.exceptions
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException

    try:
        yield
    except ApiException as exc:
        code, words, after = _said(exc)
        if code in absent:
            return
        raise refusal(code, words, retry_after=after) from exc
    except ConfigException as exc:
        raise CredentialsError(
            f"The kubeconfig cannot be used: {exc}",
            hint="See `kubectl config get-contexts` and docs/clouds/kubernetes.md.",
            provider_code="KubeConfig",
        ) from exc
    except (urllib3.exceptions.HTTPError, OSError) as exc:
        raise UnavailableError(f"The cluster cannot be reached: {exc}") from exc


def _said(exc: Any) -> tuple[str, str, float]:
    """Reason, message and seconds to wait of a refusal; some proxies answer without a ``Status``."""
    try:
        status: dict[str, Any] = json.loads(exc.body or "")
    except (TypeError, ValueError):
        status = {}
    code = str(status.get("reason") or _BY_NUMBER.get(exc.status, exc.reason or exc.status))
    wait = (status.get("details") or {}).get("retryAfterSeconds") or (exc.headers or {}).get("Retry-After")
    try:
        after = float(wait or _RETRY_SECONDS)
    except ValueError:
        after = _RETRY_SECONDS
    return code, str(status.get("message") or exc.reason or code), after


_BY_NUMBER = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    422: "Invalid",
    429: "TooManyRequests",
}
