"""The contexts of the kubeconfig, and how their API servers are asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from stix.clouds.kubernetes.errors import translated
from stix.clouds.kubernetes.settings import KubernetesCloud
from stix.model.errors import InvalidRequestError

__all__ = ["Contexts", "ask"]

_TIMEOUTS = (5, 30)


def ask(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The answer as the API server wrote it. The SDK's own reading refuses fields that it does not know, as
    newer servers have, and answers of kinds that only older ones give."""
    answer = call(*arguments, **options, _preload_content=False, _request_timeout=_TIMEOUTS)
    return json.loads(answer.data)


class Contexts:
    """Those that the settings allow, each with one client. Thread-safe; nothing is sent."""

    def __init__(self, settings: KubernetesCloud) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._namespaces: dict[str, str] = {}

    def names(self) -> tuple[str, ...]:
        if self._settings.contexts:
            return self._settings.contexts
        if self._settings.kubeconfig:
            return (str(self._settings.kubeconfig.get("current-context", "")),)
        with translated():
            _, current = _kubeconfig().list_kube_config_contexts()
        return (str(current["name"]),)

    def core(self, context: str) -> tuple[Any, str]:
        """The API of a context, and the namespace in it."""
        import kubernetes.client as sdk

        with self._lock:
            if context not in self._clients:
                if context not in self.names():
                    known = ", ".join(self.names())
                    raise InvalidRequestError(
                        f"The context {context!r} may not be used.",
                        hint=f"Name it in clouds.kubernetes.contexts; there are {known}.",
                    )
                with translated():
                    self._namespaces[context], client = self._connect(context)
                self._clients[context] = sdk.CoreV1Api(client)
            return self._clients[context], self._namespaces[context]

    def _connect(self, context: str) -> tuple[str, Any]:
        import kubernetes.client as sdk
        import urllib3

        config = _kubeconfig()
        configuration = sdk.Configuration()
        # Sent once: a repetition by the SDK would hide that the outcome of the first is unknown, and a
        # throttled call is the caller's to repeat.
        configuration.retries = urllib3.Retry(0, respect_retry_after_header=False)
        given = self._settings.kubeconfig
        if given:
            config.load_kube_config_from_dict(given, context=context, client_configuration=configuration)
            entries = given.get("contexts") or ()
        else:
            config.load_kube_config(context=context, client_configuration=configuration)
            entries = config.list_kube_config_contexts()[0]
        about = next((one.get("context") or {} for one in entries if one["name"] == context), {})
        namespace = self._settings.namespace or str(about.get("namespace") or "default")
        return namespace, sdk.ApiClient(configuration)


def _kubeconfig() -> Any:
    """The SDK's reader of kubeconfigs, which has no types."""
    from kubernetes import config

    return config
