{{/* What the app's pods have in common; `atlas-auth-proxy.sidecar.*` are the three lines that a chart of yours needs. */}}
{{- define "example-app.pod" -}}
{{- $proxy := index .Subcharts "atlas-auth-proxy" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ include "atlas-auth-proxy.sidecar.terminationGracePeriodSeconds" $proxy }}
securityContext:
  runAsNonRoot: true
  # The group that may read the sidecar's files. If your pod has another one already, that will do.
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
initContainers:
  {{- include "atlas-auth-proxy.sidecar.container" $proxy | nindent 2 }}
volumes:
  {{- include "atlas-auth-proxy.sidecar.volumes" $proxy | nindent 2 }}
{{- end -}}

{{- define "example-app.container" -}}
image: {{ .Values.image }}
securityContext:
  runAsNonRoot: true
  runAsUser: 100
  runAsGroup: 101
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
  seccompProfile:
    type: RuntimeDefault
resources:
  requests:
    cpu: 10m
    memory: 16Mi
  limits:
    memory: 64Mi
{{- end -}}

{{- define "example-app.curl" -}}
curl --silent --show-error --fail-with-body --max-time 90 --header "Accept: application/vnd.atlas.2023-01-01+json" \
  http://localhost:{{ int (index .Values "atlas-auth-proxy").sidecar.port }}{{ .Values.path }}
{{- end -}}
