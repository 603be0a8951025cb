{{- define "atlas-auth-proxy.gateway.host" -}}
{{ include "atlas-auth-proxy.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "atlas-auth-proxy.gateway.audience" -}}
{{- .Values.gateway.clusterIssuer.audience | default (printf "https://%s" (include "atlas-auth-proxy.gateway.host" .)) -}}
{{- end -}}

{{- define "atlas-auth-proxy.gateway.serviceAccountName" -}}
{{- if .Values.gateway.serviceAccount.create -}}
{{- default (include "atlas-auth-proxy.fullname" .) .Values.gateway.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.gateway.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "atlas-auth-proxy.gateway.tlsSecret" -}}
{{- .Values.gateway.tls.existingSecret | default (printf "%s-tls" (include "atlas-auth-proxy.fullname" .)) -}}
{{- end -}}

{{/* What takes effect at the next start alone, and comes from the configuration file: a change of it restarts the pods. */}}
{{- define "atlas-auth-proxy.gateway.atStart" -}}
{{- with pick .Values.gateway.limits "max_connections" "max_connections_per_peer" "replay_budget" }}
{{- toYaml . }}
{{- end }}
{{- if .Values.gateway.tokenStore.url }}
{{ toYaml .Values.gateway.tokenStore }}
{{- end }}
{{- end -}}

{{- define "atlas-auth-proxy.gateway.toml" -}}
{{- $g := .Values.gateway -}}
[[listener]]
name = "gateway"
bind = "{{ include "atlas-auth-proxy.bind" .Values.bindAddress }}:8443"
hosts = {{ prepend $g.hosts (include "atlas-auth-proxy.gateway.host" .) | uniq | toJson }}
allow = {{ toJson $g.allow }}
{{- with $g.listenerOptions }}
{{ trim . }}
{{- end }}

[listener.tls]
certificate = "/run/secrets/atlas-tls/tls.crt"
key = "/run/secrets/atlas-tls/tls.key"
{{- if $g.tls.clientCa.configMap }}
client_ca = "/run/secrets/atlas-tls/client-ca.crt"
client_certificate = "{{ ternary "required" "optional" $g.tls.clientCa.required }}"
{{- end }}
{{- if $g.passes.enabled }}

[passes]
key_file = "/run/secrets/atlas/pass-key" # the same for all replicas
life = {{ toJson $g.passes.life }}
{{- end }}
{{- if $g.audit.enabled }}

[audit] # to whoever collects standard output
file = "stdout"
when_full = "drop"
include = {{ toJson $g.audit.include }}
format = {{ toJson $g.audit.format }}
{{- end }}
{{- if $g.limits }}

[limits]
{{- range $key, $value := $g.limits }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- if $g.tokenStore.url }}

[token_store]
url = {{ toJson $g.tokenStore.url }}
key_file = "/run/secrets/atlas/token-store-key"
{{- with $g.tokenStore.username }}
username = {{ toJson . }}
{{- end }}
{{- if $g.tokenStore.passwordKey }}
password_file = "/run/secrets/atlas/token-store-password"
{{- end }}
{{- if $g.tokenStore.ca.configMap }}
ca_file = "/run/secrets/atlas/token-store-ca.crt"
{{- end }}
{{- end }}
{{- if $g.clusterIssuer.enabled }}

[[issuer]]
name = "cluster"
issuer = {{ toJson $g.clusterIssuer.issuer }}
audience = {{ include "atlas-auth-proxy.gateway.audience" . | toJson }}
jwks_url = "https://kubernetes.default.svc/openid/v1/jwks"
# The cluster shows the keys of its tokens to no one without a token.
ca_file = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token"
max_life = {{ toJson $g.clusterIssuer.maxLife }}
{{- end }}

# ---------------------------------------------------------------- gateway.configuration
{{ trim $g.configuration }}
{{- end -}}
