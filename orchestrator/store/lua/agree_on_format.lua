-- The format of what is kept here becomes that of the release, where it is the next one. ARGV: the release's format
-- Gives the format that was found; the release's own where nothing was kept yet.
local ours = tonumber(ARGV[1])
local found = tonumber(redis.call('GET', P .. 'format') or ours)
if ours == found or ours == found + 1 then redis.call('SET', P .. 'format', ours) end
return found
