-- approve is offered while a plan waits for it.
local waits = false
if obj.status ~= nil and obj.status.plan ~= nil and obj.status.conditions ~= nil then
  for _, one in ipairs(obj.status.conditions) do
    if one.type == "Ready" and one.reason == "NeedsApproval" and one.observedGeneration == obj.metadata.generation then
      waits = true
    end
  end
end
local actions = {}
actions["approve"] = { ["disabled"] = not waits }
return actions
