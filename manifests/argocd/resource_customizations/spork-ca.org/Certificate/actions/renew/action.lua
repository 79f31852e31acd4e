-- Any new value renews the certificate now.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["spork-ca.org/renew"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
