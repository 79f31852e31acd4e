-- Health of a Certificate. One that is valid is healthy, also while the next one is being issued.
local on_its_way = {
  Signing = true,
  IssuerMissing = true,
  IssuerNotReady = true,
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

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "It is being deleted.")
end
local ready, issuing = condition("Ready"), condition("Issuing")
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at it yet.")
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if issuing ~= nil and issuing.status == "True" then
  return health("Progressing", issuing.message)
end
if ready.status == "Unknown" or on_its_way[ready.reason] then
  return health("Progressing", ready.message)
end
return health("Degraded", ready.message)
