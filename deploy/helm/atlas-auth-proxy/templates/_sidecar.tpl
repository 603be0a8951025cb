{{/*
Templates for other charts: atlas-auth-proxy as a native sidecar of their own pods. Each takes the context of this chart as a
dependency, which has its values and defaults:

  {{- $proxy := index .Subcharts "atlas-auth-proxy" }}
  spec:
    terminationGracePeriodSeconds: {{ include "atlas-auth-proxy.sidecar.terminationGracePeriodSeconds" $proxy }}
    securityContext:
      fsGroup: 65532            # any group will do: it is the one that may read the secret files
    initContainers:
      {{- include "atlas-auth-proxy.sidecar.container" $proxy | nindent 6 }}
    volumes:
      {{- include "atlas-auth-proxy.sidecar.volumes" $proxy | nindent 6 }}
*/}}

{{- define "atlas-auth-proxy.sidecar.checked" -}}
{{- include "atlas-auth-proxy.noSecrets" . -}}
{{- $s := .Values.sidecar -}}
{{- if and $s.gateway.url $s.account.existingSecret -}}
{{- fail (printf "%s.sidecar: set either `account.existingSecret` (a credential of its own) or `gateway.url` (a leaf, which has none), not both" .Chart.Name) -}}
{{- else if not (or $s.gateway.url $s.account.existingSecret) -}}
{{- fail (printf "%s.sidecar: set `account.existingSecret`, the name of a Secret with the keys `client-id` and `client-secret`, or `gateway.url`, the address of a gateway" .Chart.Name) -}}
{{- else if and $s.gateway.url (not $s.gateway.audience) -}}
{{- fail (printf "%s.sidecar.gateway.audience: set it to what the gateway's `[[issuer]]` has as `audience`; a gateway of this chart prints it when it is installed" .Chart.Name) -}}
{{- else if and $s.gateway.url $s.account.baseUrl -}}
{{- fail (printf "%s.sidecar: `account.baseUrl` is for a credential of its own; where requests go, `gateway.url` says" .Chart.Name) -}}
{{- end -}}
{{- if and $s.account.existingSecret -}}
{{- include "atlas-auth-proxy.flavourFits" (dict "root" . "account" $s.account) -}}
{{- end -}}
{{- end -}}

{{/* One init container. Put it before those that call Atlas. */}}
{{- define "atlas-auth-proxy.sidecar.container" -}}
{{- include "atlas-auth-proxy.sidecar.checked" . -}}
{{- $s := .Values.sidecar -}}
- name: atlas-auth-proxy
  image: {{ include "atlas-auth-proxy.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  # Always: starts before the app, is restarted by itself, ends after the app, and does not keep a Job alive.
  restartPolicy: Always
  env:
    {{- if $s.gateway.url }}
    - name: ATLAS_PROXY_GATEWAY
      value: {{ $s.gateway.url | quote }}
    - name: ATLAS_PROXY_IDENTITY_TOKEN_FILE
      value: /run/secrets/atlas/token
    {{- if $s.account.ca.configMap }}
    - name: ATLAS_PROXY_UPSTREAM_CA
      value: /run/secrets/atlas/ca.crt
    {{- end }}
    {{- else }}
    {{- include "atlas-auth-proxy.account.env" $s.account | trim | nindent 4 }}
    {{- end }}
    {{- if $s.configuration }}
    - name: ATLAS_PROXY_CONFIG
      value: /etc/atlas-auth-proxy/proxy.toml
    {{- end }}
    {{- if ne (int $s.port) 8080 }}
    - name: ATLAS_PROXY_LISTEN
      value: localhost:{{ int $s.port }}
    {{- end }}
    {{- if $s.readOnly }}
    - name: ATLAS_PROXY_READ_ONLY
      value: "true"
    {{- end }}
    # The kubelet and Prometheus reach the admin port at the pod's address. The proxied port stays on loopback.
    - name: ATLAS_PROXY_ADMIN_LISTEN
      value: "{{ include "atlas-auth-proxy.bind" .Values.bindAddress }}:{{ int $s.adminPort }}"
    - name: ATLAS_PROXY_DRAIN_TIMEOUT
      value: {{ int $s.drainTimeoutSeconds }}s
    - name: ATLAS_PROXY_LOG_LEVEL
      value: {{ .Values.log.level }}
    - name: ATLAS_PROXY_LOG_FORMAT
      value: {{ .Values.log.format }}
    {{- with $s.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: atlas-admin
      containerPort: {{ int $s.adminPort }}
      protocol: TCP
  # The app starts once the listeners are bound and a first token was asked for, whether or not Atlas answered. No readiness
  # probe on purpose: a sidecar's readiness is its pod's, and a refused credential must not take the app out of its Service.
  # Alert on credential_usable instead.
  {{- include "atlas-auth-proxy.probes" . | nindent 2 }}
  securityContext:
    {{- include "atlas-auth-proxy.containerSecurityContext" . | nindent 4 }}
  resources:
    {{- toYaml $s.resources | nindent 4 }}
  volumeMounts:
    - name: atlas-credential
      mountPath: /run/secrets/atlas
      readOnly: true
    {{- if $s.configuration }}
    - name: atlas-auth-proxy-config
      mountPath: /etc/atlas-auth-proxy
      readOnly: true
    {{- end }}
    {{- with $s.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Mount them into no other container: whoever has what lies there is this app to Atlas, or to the gateway. */}}
{{- define "atlas-auth-proxy.sidecar.volumes" -}}
{{- $s := .Values.sidecar -}}
- name: atlas-credential
  projected:
    # Readable by owner and group (fsGroup), by nobody else.
    defaultMode: 0440
    sources:
      {{- if $s.gateway.url }}
      - serviceAccountToken:
          path: token
          # As the gateway's `[[issuer]]` has it; good nowhere else.
          audience: {{ $s.gateway.audience | quote }}
          # The kubelet replaces it at 80 % of this; the leaf reads it anew.
          expirationSeconds: {{ int $s.gateway.tokenExpirationSeconds }}
      {{- with include "atlas-auth-proxy.account.ca" $s.account }}
      {{- . | trim | nindent 6 }}
      {{- end }}
      {{- else }}
      {{- include "atlas-auth-proxy.account.sources" $s.account | trim | nindent 6 }}
      {{- end }}
{{- if $s.configuration }}
- name: atlas-auth-proxy-config
  configMap:
    name: {{ include "atlas-auth-proxy.fullname" . }}-sidecar
{{- end }}
{{- end -}}

{{/* For the pod: longer than the drain, the revocation of the token (2 s), and some more. An app that needs longer says its own. */}}
{{- define "atlas-auth-proxy.sidecar.terminationGracePeriodSeconds" -}}
{{- add .Values.sidecar.drainTimeoutSeconds 15 -}}
{{- end -}}
