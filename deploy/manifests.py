"""What the tests of helm/ and kustomize/ share: rendered manifests, looked into, and validated by the schemas of Kubernetes and,
for custom resources, by those of the operators that own them."""

import json
import os
import subprocess

import jsonschema
import kubernetes_validate
import yaml

DEPLOY = os.path.dirname(os.path.abspath(__file__))
# The oldest version that the chart takes, and the newest that kubernetes-validate knows.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
# Modules of Go that hold the schemas of custom resources: kind, module, file.
CUSTOM = {
    "ServiceMonitor": ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    "PrometheusRule": ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    "Certificate": ("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds/cert-manager.io_certificates.yaml"),
}


class Manifests(list):
    """The objects of one rendering."""

    def __init__(self, text):
        super().__init__(document for document in yaml.safe_load_all(text) if document)

    def all(self, kind):
        return [document for document in self if document["kind"] == kind]

    def one(self, kind, name=None):
        found = [d for d in self.all(kind) if name is None or d["metadata"]["name"] == name]
        if len(found) != 1:
            raise KeyError(f"{len(found)} objects of kind {kind}, name {name}")
        return found[0]

    def pod(self, kind="Deployment", name=None):
        """The pod's template in an object."""
        spec = self.one(kind, name)["spec"]
        return (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]


def containers(pod):
    """Containers and init containers, by name."""
    return {c["name"]: c for c in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]}


def environment(container):
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def crd_file(kind):
    """The file with a custom resource's definition; None without Go."""
    module, path = CUSTOM[kind]
    try:
        said = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, text=True, cwd="/")
    except FileNotFoundError:
        return None
    return os.path.join(json.loads(said.stdout)["Dir"], path)


def strict(schema):
    """The same schema, where a property that it does not name is an error; an API server would drop it."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        named = isinstance(schema.get("properties"), dict)
        if named and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
        if schema.pop("x-kubernetes-int-or-string", None):
            schema.pop("type", None)
        if "(?i)" in str(schema.get("pattern")):
            # Python wants this flag in front.
            schema["pattern"] = "(?i)" + schema["pattern"].replace("(?i)", "")
    elif isinstance(schema, list):
        schema = [strict(value) for value in schema]
    return schema


class Validator:
    def __init__(self):
        self.seen = set()
        self.custom = {}
        self.skipped = set()

    def check(self, document):
        """Raises where a document is not what the schemas say."""
        text = json.dumps(document, sort_keys=True)
        if text in self.seen:
            return
        self.seen.add(text)
        if document["kind"] not in CUSTOM:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
            return
        kind = document["kind"]
        if kind not in self.custom:
            self.custom[kind] = self.schema(kind)
        if self.custom[kind] is None:
            self.skipped.add(kind)
        else:
            jsonschema.validate(document, self.custom[kind])

    @staticmethod
    def schema(kind):
        file = crd_file(kind)
        if file is None:
            return None
        with open(file) as text:
            versions = yaml.safe_load(text)["spec"]["versions"]
        schema = strict(next(v for v in versions if v["served"])["schema"]["openAPIV3Schema"])
        # What every object has, and a definition leaves to the API server.
        schema["properties"]["metadata"] = {"type": "object"}
        return schema

    def report(self):
        print(f"{len(self.seen)} different objects are right by the schemas of Kubernetes {' and '.join(VERSIONS)}")
        for kind in sorted(self.skipped):
            not_checked(f"{kind}: its schema needs Go")


def not_checked(what):
    """As tests/suite/support/needs.rs: said here, and again at the end of .ci/run."""
    print(f"NOT CHECKED: {what}")
    if file := os.environ.get("SKIPPED_TESTS"):
        with open(file, "a") as out:
            out.write(f"NOT CHECKED: {what}\n")
