"""State machines of the Amazon States Language on SQLite: the embedded twin of Step Functions.

>>> definitions = load_definitions(folder, {"ProvisionFunctionArn": "provision"})
>>> interpreter = Interpreter(SqliteDatabase(path), definitions, invoke)
>>> driver = WorkflowDriver(interpreter, submit)
>>> driver.start()
>>> interpreter.start("launch", "my-cluster-1", {"cluster": "my-cluster"})
True
"""

from __future__ import annotations

from .definition import Definition, load_definitions
from .driver import WorkflowDriver
from .engine import Execution, Interpreter
from .errors import DefinitionError, FunctionError

__all__ = [
    "Definition",
    "DefinitionError",
    "Execution",
    "FunctionError",
    "Interpreter",
    "WorkflowDriver",
    "load_definitions",
]
