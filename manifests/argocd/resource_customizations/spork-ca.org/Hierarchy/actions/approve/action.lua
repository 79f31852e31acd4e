-- Names the plan that stands in the status at this moment. If it changes before the operator sees this, the approval is of no use.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["spork-ca.org/approve"] = obj.status.plan.hash
return obj
