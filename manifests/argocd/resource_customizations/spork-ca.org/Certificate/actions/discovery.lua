-- renew is offered always, except for what is going.
local actions = {}
actions["renew"] = { ["disabled"] = obj.metadata.deletionTimestamp ~= nil }
return actions
