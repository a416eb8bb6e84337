/**
 * A member of another server reads exactly what the history visibility of each time allows: what was said while they were no
 * member yet, were invited, were in the room, and had left it.
 */
import { create, hasState, messagesOf, type Scene, type Stage, sees, until } from "./scenes.ts"

const allowed = [
  "while the room was world-readable",
  "while history was shared",
  "for the invited, after the invitation",
  "for members, to a member",
  "while history was shared and bob away"
]

/** Alice talks, by every visibility, while Bob comes and goes. Gives the room when he is back. */
const tell = async (stage: Stage): Promise<string> => {
  const { alice, bob, founder } = stage
  const room = await create(stage)
  const show = (history_visibility: string) => alice.set(room, "m.room.history_visibility", { history_visibility })
  await show("world_readable")
  await alice.say(room, "while the room was world-readable")
  await show("shared")
  await alice.say(room, "while history was shared")
  await show("invited")
  await alice.say(room, "for the invited, before the invitation")
  await alice.invite(room, bob)
  await alice.say(room, "for the invited, after the invitation")
  await show("joined")
  await alice.say(room, "for members, before the join")
  await bob.join(room, founder.name)
  await sees(alice, room, bob, "join")
  const said = await alice.say(room, "for members, to a member")
  await until("bob gets it", () => bob.has(room, said))
  await bob.leave(room)
  await sees(alice, room, bob, "leave")
  await alice.say(room, "for members, while bob was away")
  await show("shared")
  await alice.say(room, "while history was shared and bob away")
  await bob.join(room, founder.name)
  await sees(alice, room, bob, "join")
  await hasState(bob, room, "m.room.history_visibility", (content) => content.history_visibility === "shared")
  return room
}

export const historyVisibility: ReadonlyArray<Scene> = [
  {
    name: "history visibility of each time: nothing more is read",
    run: async (stage) => {
      const room = await tell(stage)
      const read = await messagesOf(stage.bob, room)
      if (!read.includes("for members, to a member")) throw new Error("Bob does not read what he was sent as a member")
      const tooMuch = read.filter((text) => !allowed.includes(text))
      if (tooMuch.length > 0) throw new Error(`Bob reads ${JSON.stringify(tooMuch)}`)
    }
  },
  {
    name: "history visibility of each time: all of it is read",
    run: async (stage) => {
      const room = await tell(stage)
      let read: ReadonlyArray<string> = []
      await until("bob reads what he may", async () => {
        read = await messagesOf(stage.bob, room)
        return JSON.stringify(read) === JSON.stringify(allowed)
      }).catch(() => {
        throw new Error(`Bob reads ${JSON.stringify(read)}`)
      })
    }
  }
]
