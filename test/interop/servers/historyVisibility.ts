/**
 * A member of another server reads exactly the messages that the history visibility at their time allows: before an invitation, while
 * invited, joined, and after leaving.
 */
import { createRoom, hasState, messagesOf, type Scene, type Stage, sees, until } from "./scenes.ts"

const allowed = [
  "while the room was world-readable",
  "while history was shared",
  "for the invited, after the invitation",
  "for members, to a member",
  "while history was shared and bob away"
]

/** Alice sends messages under every visibility, while Bob joins and leaves. Returns the room, which Bob has joined again. */
const sendUnderEach = async (stage: Stage): Promise<string> => {
  const { alice, bob, founder } = stage
  const room = await createRoom(stage)
  const show = (history_visibility: string) => alice.set(room, "m.room.history_visibility", { history_visibility })
  await show("world_readable")
  await alice.sendText(room, "while the room was world-readable")
  await show("shared")
  await alice.sendText(room, "while history was shared")
  await show("invited")
  await alice.sendText(room, "for the invited, before the invitation")
  await alice.invite(room, bob)
  await alice.sendText(room, "for the invited, after the invitation")
  await show("joined")
  await alice.sendText(room, "for members, before the join")
  await bob.join(room, founder.name)
  await sees(alice, room, bob, "join")
  const message = await alice.sendText(room, "for members, to a member")
  await until("bob receives it", () => bob.has(room, message))
  await bob.leave(room)
  await sees(alice, room, bob, "leave")
  await alice.sendText(room, "for members, while bob was away")
  await show("shared")
  await alice.sendText(room, "while history was shared and bob away")
  await bob.join(room, founder.name)
  await sees(alice, room, bob, "join")
  await hasState(bob, room, "m.room.history_visibility", (content) => content.history_visibility === "shared")
  return room
}

export const historyVisibility: ReadonlyArray<Scene> = [
  {
    name: "history visibility: no other messages are read",
    run: async (stage) => {
      const room = await sendUnderEach(stage)
      const read = await messagesOf(stage.bob, room)
      if (!read.includes("for members, to a member"))
        throw new Error("Bob does not read the message that he received as a member")
      const tooMuch = read.filter((text) => !allowed.includes(text))
      if (tooMuch.length > 0) throw new Error(`Bob reads ${JSON.stringify(tooMuch)}`)
    }
  },
  {
    name: "history visibility: all allowed messages are read",
    run: async (stage) => {
      const room = await sendUnderEach(stage)
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
