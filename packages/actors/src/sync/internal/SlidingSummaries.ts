/**
 * Name, avatar and heroes of rooms in sliding sync.
 *
 * Source: "Room results" of MSC4186.
 */
import { contentText, type Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { SlidingReading } from "./SlidingReading.ts"
import { isMember, type SlidingState } from "./SlidingStates.ts"
import { hasLeft } from "./SyncRange.ts"

const toHeroes = (userIds: ReadonlyArray<UserId>, found: ReadonlyArray<Event>) =>
  userIds.map((user_id) => {
    const member = found.find((event) => isMember(event) && event.state_key === user_id)
    const displayname = contentText(member, "displayname")
    const avatar_url = contentText(member, "avatar_url")
    return {
      user_id,
      ...(displayname === undefined ? {} : { displayname }),
      ...(avatar_url === undefined ? {} : { avatar_url })
    }
  })

/** Name, avatar and heroes: all of them at first, and later what changed. */
export const summaryOf = ({ at, known }: SlidingReading, { found, heroes: present }: SlidingState) => {
  // Former members get no heroes that have entered the room since they left.
  const wasThere = (userId: UserId) => found.some((event) => isMember(event) && event.state_key === userId)
  const heroes = hasLeft(at.membership) ? present?.filter(wasThere) : present
  const find = (type: string) => found.find((event) => event.type === type && event.state_key === "")
  const [name, avatar] = [find("m.room.name"), find("m.room.avatar")]
  const text = contentText(name, "name")
  const url = contentText(avatar, "url")
  const isFirst = known === undefined
  return {
    ...(text !== undefined ? { name: text } : name !== undefined && !isFirst ? { name: null } : {}),
    ...(url !== undefined ? { avatar: url } : avatar !== undefined && !isFirst ? { avatar: null } : {}),
    ...(heroes !== undefined && text === undefined ? { heroes: toHeroes(heroes, found) } : {})
  }
}
