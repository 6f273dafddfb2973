-- Keeps hold of a finish that takes long. ARGV: job, now, token
-- Gives the new token; '' where the finish is another's by now, or over.
local id, now = ARGV[1], tonumber(ARGV[2])
if job_field(id, 'finishing') ~= ARGV[3] then return '' end
return lease_finish(id, now)
