-- Health of a Hierarchy. Suspended: a person is waited for, who approves, brings the sealed passphrase, or signs elsewhere.
local for_people = {
  NeedsApproval = true,
  WaitingForSealedKeys = true,
  WaitingForOfflineCA = true,
  LiveCertificates = true,
}
local on_its_way = {
  WaitingForSigner = true,
  Unavailable = true,
  Deleting = true,
}

local function condition(name)
  if obj.status == nil or obj.status.conditions == nil then
    return nil
  end
  for _, one in ipairs(obj.status.conditions) do
    if one.type == name then
      return one
    end
  end
  return nil
end

local function health(status, message)
  return { status = status, message = message }
end

local ready = condition("Ready")
if ready ~= nil and ready.status == "False" and for_people[ready.reason] then
  return health("Suspended", ready.message)
end
if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "It is being deleted.")
end
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at it yet.")
end
if ready.status ~= "True" then
  if ready.status == "Unknown" or on_its_way[ready.reason] then
    return health("Progressing", ready.message)
  end
  return health("Degraded", ready.message)
end
-- The tree is there, but what is served is not what is declared, or a revocation list is missing.
for _, name in ipairs({ "InSync", "CRLs" }) do
  local found = condition(name)
  if found ~= nil and found.status == "False" then
    return health("Degraded", found.message)
  end
end
return health("Healthy", ready.message)
