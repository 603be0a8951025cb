{{/* What the schema can't say, or not in words that help. */}}
{{- define "atlas-auth-proxy.noSecrets" -}}
{{- $values := toJson .Values -}}
{{- $how := "Values are stored in the release and shown by `helm get values`. Make a Secret from files (kubectl create secret generic NAME --from-file=client-id --from-file=client-secret), and name it in `existingSecret`" -}}
{{- range tuple "clientId" "clientSecret" "publicKey" "privateKey" -}}
{{- if or (hasKey $.Values.gateway.account .) (hasKey $.Values.sidecar.account .) -}}
{{- fail (printf "`account.%s`: no credential belongs into values. %s" . $how) -}}
{{- end -}}
{{- end -}}
{{- if or (contains "mdb_sa_sk_" $values) (regexMatch "-----BEGIN [A-Z ]*PRIVATE KEY" $values) (regexMatch "://[^/@\"\\s]*:[^/@\"\\s]+@" $values) -}}
{{- fail (printf "there is a secret among the values; it is not shown here. %s" $how) -}}
{{- end -}}
{{- end -}}

{{- define "atlas-auth-proxy.flavourFits" -}}
{{- if and (eq .root.Values.image.flavour "fips") (eq .account.kind "apiKey") -}}
{{- fail "image.flavour: the FIPS build answers no HTTP Digest with MD5, which is all that Atlas offers for API keys: use a service account" -}}
{{- end -}}
{{- end -}}

{{- define "atlas-auth-proxy.gateway.checked" -}}
{{- $g := .Values.gateway -}}
{{- $missing := list -}}
{{- if not $g.account.existingSecret -}}
{{- $missing = append $missing "gateway.account.existingSecret: the name of a Secret with the keys `client-id`, `client-secret` and `pass-key`" -}}
{{- end -}}
{{- if not (or $g.tls.existingSecret $g.tls.certManager.enabled) -}}
{{- $missing = append $missing "gateway.tls.existingSecret: the name of a Secret with `tls.crt` and `tls.key`; or gateway.tls.certManager.enabled" -}}
{{- end -}}
{{- if and $g.tls.certManager.enabled (not $g.tls.certManager.issuerRef.name) -}}
{{- $missing = append $missing "gateway.tls.certManager.issuerRef.name: which issuer makes the certificate" -}}
{{- end -}}
{{- if not (regexMatch "(?m)^\\s*\\[\\[caller\\]\\]" $g.configuration) -}}
{{- $missing = append $missing "gateway.configuration: TOML with a `[[caller]]` for each app and its `[[caller.rule]]`s; without callers everybody would be served, or nobody" -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "the gateway needs more values (README.md of the chart has a whole example):\n  - %s\nA chart that only wants the sidecar's templates sets %s.gateway.enabled=false." (join "\n  - " $missing) .Chart.Name) -}}
{{- end -}}
{{- if and $g.tls.existingSecret $g.tls.certManager.enabled -}}
{{- fail "gateway.tls: `existingSecret` or `certManager.enabled`, not both" -}}
{{- end -}}
{{- if not $g.allow -}}
{{- fail "gateway.allow: an empty list lets nobody in; name the network of your pods" -}}
{{- end -}}
{{- range tuple (list "admin" "set gateway.adminPort and bindAddress") (list "log" "set log") (list "limits" "set gateway.limits") (list "token_store" "set gateway.tokenStore") -}}
{{- if regexMatch (printf "(?m)^\\s*\\[%s\\]" (index . 0)) $g.configuration -}}
{{- fail (printf "gateway.configuration has [%s], whose changes need a restart: %s instead, which restarts the pods" (index . 0) (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- range tuple (list "audit" $g.audit.enabled "gateway.audit.enabled") (list "passes" $g.passes.enabled "gateway.passes.enabled") -}}
{{- if and (index . 1) (regexMatch (printf "(?m)^\\s*\\[%s\\]" (index . 0)) $g.configuration) -}}
{{- fail (printf "gateway.configuration has [%s]: set %s=false, or leave the table out" (index . 0) (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- $most := ternary $g.autoscaling.maxReplicas $g.replicas $g.autoscaling.enabled -}}
{{- if and (gt (int $most) 45) (eq $g.account.kind "serviceAccount") (not $g.tokenStore.url) -}}
{{- fail (printf "gateway: Atlas lets 100 tokens of one service account live, which is enough for 45 replicas and not for %d: set gateway.tokenStore.url, so that they share one (docs/SCALE.md)" (int $most)) -}}
{{- end -}}
{{- include "atlas-auth-proxy.flavourFits" (dict "root" . "account" $g.account) -}}
{{- end -}}

{{- define "atlas-auth-proxy.rotation.checked" -}}
{{- $a := include "atlas-auth-proxy.rotation.account" . | fromJson -}}
{{- if not $a.existingSecret -}}
{{- fail "rotation.enabled: nothing to rotate; set gateway.account.existingSecret, or in a chart without a gateway sidecar.account.existingSecret" -}}
{{- else if eq $a.kind "apiKey" -}}
{{- fail "rotation.enabled: Atlas makes no new secret for an API key; use a service account" -}}
{{- end -}}
{{- end -}}
