{{- define "atlas-auth-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Installed by itself it is named as its release, so that its address is short; in another chart, behind the release's name. */}}
{{- define "atlas-auth-proxy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if .Chart.IsRoot -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "atlas-auth-proxy.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "atlas-auth-proxy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "atlas-auth-proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Never changed: a Deployment's selector can't be. */}}
{{- define "atlas-auth-proxy.gateway.selector" -}}
app.kubernetes.io/name: {{ include "atlas-auth-proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "atlas-auth-proxy.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- with .Values.image.flavour }}{{ $tag = printf "%s-%s" $tag . }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "atlas-auth-proxy.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Drain, 2 s for the revocation of a token, and some more for a slow machine. */}}
{{- define "atlas-auth-proxy.gateway.terminationGracePeriodSeconds" -}}
{{- add .Values.gateway.drainDelaySeconds .Values.gateway.drainTimeoutSeconds 15 -}}
{{- end -}}

{{/* As Pod Security `restricted` wants it. Without runAsUser the platform chooses one, as OpenShift does. */}}
{{- define "atlas-auth-proxy.containerSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "atlas-auth-proxy.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
# The group that may read the secret files.
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The probes of the admin port that every proxy has; readiness is the gateway's alone. */}}
{{- define "atlas-auth-proxy.probes" -}}
startupProbe:
  httpGet:
    path: /startupz
    port: atlas-admin
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet:
    path: /livez
    port: atlas-admin
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
{{- end -}}

{{- define "atlas-auth-proxy.bind" -}}
{{- if contains ":" . }}[{{ . }}]{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* Variables of an account (gateway.account, sidecar.account): files, so that a new secret is taken without a restart. */}}
{{- define "atlas-auth-proxy.account.env" -}}
{{- if eq .kind "apiKey" }}
- name: MONGODB_ATLAS_PUBLIC_API_KEY_FILE
  value: /run/secrets/atlas/public-key
- name: MONGODB_ATLAS_PRIVATE_API_KEY_FILE
  value: /run/secrets/atlas/private-key
{{- else }}
- name: MONGODB_ATLAS_CLIENT_ID_FILE
  value: /run/secrets/atlas/client-id
- name: MONGODB_ATLAS_CLIENT_SECRET_FILE
  value: /run/secrets/atlas/client-secret
{{- if .clientSecretNextKey }}
- name: MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE
  value: /run/secrets/atlas/client-secret-next
{{- end }}
{{- end }}
{{- include "atlas-auth-proxy.account.upstream" . }}
{{- end -}}

{{/* Where an account's requests go. */}}
{{- define "atlas-auth-proxy.account.upstream" -}}
{{- if eq .environment "gov" }}
- name: MONGODB_ATLAS_SERVICE
  value: cloudgov
{{- end }}
{{- with .baseUrl }}
- name: ATLAS_PROXY_BASE_URL
  value: {{ . | quote }}
{{- end }}
{{- if .ca.configMap }}
- name: ATLAS_PROXY_UPSTREAM_CA
  value: /run/secrets/atlas/ca.crt
{{- end }}
{{- end -}}

{{/* What lies in /run/secrets/atlas: the keys that are needed, and no other key of the Secret. */}}
{{- define "atlas-auth-proxy.account.sources" -}}
- secret:
    name: {{ .existingSecret }}
    items:
      {{- if eq .kind "apiKey" }}
      - key: {{ .publicKeyKey }}
        path: public-key
      - key: {{ .privateKeyKey }}
        path: private-key
      {{- else }}
      - key: {{ .clientIdKey }}
        path: client-id
      - key: {{ .clientSecretKey }}
        path: client-secret
      {{- end }}
{{- if and (eq .kind "serviceAccount") .clientSecretNextKey }}
- secret:
    name: {{ .existingSecret }}
    # Between two rotations it may be absent.
    optional: true
    items:
      - key: {{ .clientSecretNextKey }}
        path: client-secret-next
{{- end }}
{{- include "atlas-auth-proxy.account.ca" . }}
{{- end -}}

{{- define "atlas-auth-proxy.account.ca" -}}
{{- if .ca.configMap }}
- configMap:
    name: {{ .ca.configMap }}
    items:
      - key: {{ .ca.key }}
        path: ca.crt
{{- end }}
{{- end -}}

{{/* Whose secret is rotated: the gateway's, or, in a chart that has none, the sidecars'. */}}
{{- define "atlas-auth-proxy.rotation.account" -}}
{{- ternary .Values.gateway.account .Values.sidecar.account .Values.gateway.enabled | toJson -}}
{{- end -}}
