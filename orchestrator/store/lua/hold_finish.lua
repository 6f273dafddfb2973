-- Keeps hold of a finish that takes long. ARGV: job, now, token
-- Gives the new token, once more where the answer was lost; '' where the finish is another's by now, or over.
local id, now = ARGV[1], tonumber(ARGV[2])
local held = job_field(id, 'finishing')
if held ~= ARGV[3] and held ~= lease_from(now) then return '' end
return lease_finish(id, now)
