-- Grants free slots of these providers to who waits. ARGV: now, providers
local grants = {}
for i = 2, #ARGV do fill(ARGV[i], tonumber(ARGV[1]), grants) end
return grants
