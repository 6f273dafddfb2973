-- Settles what a callback tells of. ARGV: those of settle.lua, which is `settle` here, and the callback
-- Gives what it gives; word: also replay, with nothing done
if is_replay() then return {'replay', false, {}} end
local settled = settle()
note(settled[1])
return settled
