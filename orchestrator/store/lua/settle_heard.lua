-- Settles what a callback tells of. ARGV: those of settle.lua, which is `settle` here, and the callback
-- Gives what it gives; word: also again and replay, with nothing done
local before = taken_before()
if before then return {before, false, {}} end
local settled = settle()
note(settled[1])
return settled
