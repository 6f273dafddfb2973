-- Grants free slots of providers to who waits. ARGV: now, provider…
local grants = {}
for place = 2, #ARGV do
  fill(ARGV[place], tonumber(ARGV[1]), grants)
end
return grants
