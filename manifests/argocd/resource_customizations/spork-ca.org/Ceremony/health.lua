-- Health of a Ceremony. It waits for people from its first moment to its last.
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

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "It is being deleted.")
end
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not looked at it yet.")
end
if ready.status == "True" or obj.status.phase == "Complete" then
  return health("Healthy", ready.message)
end
if obj.status.phase == "Failed" then
  return health("Degraded", ready.message)
end
if obj.status.phase == "Running" then
  return health("Progressing", ready.message)
end
return health("Suspended", ready.message)
