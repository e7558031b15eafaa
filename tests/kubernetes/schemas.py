"""``python -m tests.kubernetes.schemas KUBERNETES CRD…``: make schemas.json, the shapes of the kinds that we use.

KUBERNETES: a folder ``vX.Y.0-local-strict`` of the package kubernetes-validate (PyPI, Apache 2.0), with the schemas
of Kubernetes itself. CRD: files of Strimzi, of the Prometheus operator and of KEDA (their Go modules), all Apache 2.0.
Descriptions are left out; what a custom resource does not declare is refused, as the API server prunes it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

OURS: Final = (
    *("namespace-v1", "serviceaccount-v1", "service-v1", "configmap-v1"),
    *("statefulset-apps-v1", "deployment-apps-v1", "poddisruptionbudget-policy-v1", "networkpolicy-networking-v1"),
)
SCHEMAS: Final = Path(__file__).with_name("schemas.json")
LEFT_OUT: Final = frozenset(("description", "example", "default"))


def stripped(schema: Any) -> Any:
    """Without what no validator asks for."""
    match schema:
        case dict():
            return {
                name: {key: stripped(value) for key, value in child.items()}
                if name == "properties"
                else stripped(child)
                for name, child in schema.items()
                if name not in LEFT_OUT and not name.startswith("x-kubernetes-group")
            }
        case list():
            return [stripped(one) for one in schema]
        case _:
            return schema


def strict(schema: Any) -> Any:
    """A custom resource's schema that refuses what it does not declare."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: {key: strict(value) for key, value in child.items()} if name == "properties" else strict(child)
        for name, child in schema.items()
    }
    if made.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def of_kubernetes(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each kind's schema, and the definitions that they lead to."""
    definitions = json.loads((folder / "_definitions.json").read_text("utf-8"))["$defs"]
    kinds: dict[str, Any] = {}
    needed: set[str] = set()
    for name in OURS:
        schema = stripped(json.loads((folder / f"{name}.json").read_text("utf-8")))
        told = schema["properties"]
        kinds[f"{told['apiVersion']['enum'][0]}/{told['kind']['enum'][0]}"] = schema
    waiting = [kinds]
    while waiting:
        text = json.dumps(waiting.pop())
        for name in set(re.findall(r'"\$ref": "[^"]*#/\$defs/([^"]+)"', text)) - needed:
            needed.add(name)
            waiting.append(stripped(definitions[name]))
    found = {name: stripped(definitions[name]) for name in sorted(needed)}
    return _local(kinds), _local(found)


def _local(schemas: dict[str, Any]) -> dict[str, Any]:
    """With references into the same document."""
    made: dict[str, Any] = json.loads(re.sub(r'"\$ref": "[^"#]*#', '"$ref": "#', json.dumps(schemas)))
    return {name: {key: value for key, value in schema.items() if key != "$id"} for name, schema in made.items()}


def of_crd(path: Path) -> dict[str, Any]:
    """The stored version of a custom resource."""
    spec = yaml.safe_load(path.read_text("utf-8"))["spec"]
    made = {}
    for version in spec["versions"]:
        schema = strict(stripped(version["schema"]["openAPIV3Schema"]))
        schema["properties"] |= {
            "metadata": {"type": "object"},
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
        }
        made[f"{spec['group']}/{version['name']}/{spec['names']['kind']}"] = schema
    return made


def main(folder: Path, crds: list[Path]) -> None:
    """Write schemas.json."""
    kinds, definitions = of_kubernetes(folder)
    for path in crds:
        kinds |= of_crd(path)
    SCHEMAS.write_text(json.dumps({"kinds": kinds, "$defs": definitions}, separators=(",", ":"), sort_keys=True))
    print(f"{len(kinds)} kinds, {SCHEMAS.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2:]])
