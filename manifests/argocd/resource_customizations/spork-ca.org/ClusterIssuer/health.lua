-- Health of an Issuer or ClusterIssuer. Suspended: it is being deleted, and a person has to confirm how many certificates are alive.
local for_people = {
  LiveCertificates = true,
}
local on_its_way = {
  CANotReady = true,
  WaitingForTrust = true,
  Unavailable = true,
  Deleting = true,
}

local ready = nil
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, one in ipairs(obj.status.conditions) do
    if one.type == "Ready" then
      ready = one
    end
  end
end

local function health(status, message)
  return { status = status, message = message }
end

if ready ~= nil and ready.status == "False" and for_people[ready.reason] then
  return health("Suspended", ready.message)
end
if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "It is being deleted.")
end
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at it yet.")
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if ready.status == "Unknown" or on_its_way[ready.reason] then
  return health("Progressing", ready.message)
end
return health("Degraded", ready.message)
