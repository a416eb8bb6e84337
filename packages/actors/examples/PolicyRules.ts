/**
 * The rules of a policy server, for the setting `policy.rules`: what a community does not want in its rooms. A rule of your
 * own is a function of an event that says why it is refused.
 */
import { defineRule, flood, links, media, newAccounts, spam } from "@greenroom/actors/policy/PolicyRules"

/** Ten lines: nobody is to mention everybody, but for those who have been in the room for a day. */
const noRoomMentions = defineRule(({ event, joinedAt, now }) => {
  const mentions = event.content["m.mentions"] as { readonly room?: unknown } | undefined
  const isNew = joinedAt === undefined || now - joinedAt < 24 * 60 * 60_000
  return mentions?.room === true && isNew ? "Please do not mention everybody on your first day" : undefined
})

export default [
  flood({ events: 10, seconds: 30 }),
  spam(/\bfree crypto\b/i, /\bwork from home\b/i),
  newAccounts({ minutes: 10 }, links({ allowed: ["matrix.org"] }), media()),
  noRoomMentions
]
