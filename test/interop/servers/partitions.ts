/**
 * Repeated partitions of two servers, during which users of both change a room in conflict. After each, both have the same state and the
 * same forward extremities.
 */
import { type Random, randomFrom } from "../../support/Seed.ts"
import type { Person } from "../synapse/Person.ts"
import {
  assertSameState,
  duringPartition,
  exchangeMessages,
  hasState,
  type Scene,
  type Stage,
  sees,
  sharedRoom,
  until
} from "./scenes.ts"

const rounds = 3
const changesOfEach = 8

/** The user who changes the room on one server, and the users who are affected. */
interface Side {
  readonly moderator: Person
  readonly guests: ReadonlyArray<Person>
}

/** A random change, which the authorisation rules may refuse. */
const changeSomething = async (room: string, { guests, moderator }: Side, random: Random, number: number) => {
  const guest = guests[random(guests.length)]!
  switch (random(8)) {
    case 0:
      return moderator.set(room, "m.room.topic", { topic: `topic ${number}` })
    case 1:
      return moderator.set(room, "org.greenroom.test", { number }, `key ${random(3)}`)
    case 2:
      return moderator.ban(room, guest)
    case 3:
      return moderator.unban(room, guest)
    case 4:
      return moderator.kick(room, guest)
    case 5:
      return guest.join(room)
    case 6: {
      const levels = await moderator.content(room, "m.room.power_levels")
      return moderator.set(room, "m.room.power_levels", {
        ...levels,
        users: { ...levels.users, [guest.id]: random(60) }
      })
    }
    default:
      return moderator.set(room, "m.room.join_rules", { join_rule: random(2) === 0 ? "public" : "invite" })
  }
}

const changeRepeatedly = (room: string, side: Side, random: Random, first: number) => async () => {
  for (let number = 0; number < changesOfEach; number++) {
    await changeSomething(room, side, random, first + number).catch((error: Error) => {
      if (/: 5[0-9][0-9] /.test(error.message)) throw error
    })
  }
}

const sameExtremities = async ({ founder, other }: Stage, room: string): Promise<void> => {
  let seen = ""
  await until("both have the same forward extremities", async () => {
    const [a, b] = await Promise.all(
      [founder, other].map(async (server) => [...(await server.extremities(room))].sort())
    )
    seen = `${a} and ${b}`
    return `${a}` === `${b}`
  }).catch(() => {
    throw new Error(`The forward extremities differ: ${seen}`)
  })
}

export const randomPartitions: Scene = {
  name: "random changes in conflict, three times a partition",
  since: 2,
  run: async (stage) => {
    const { alice, bob, founder, other, tag, version } = stage
    const seed = 100 * version + (founder.kind === "greenroom" ? 1 : 2)
    const random = randomFrom(seed)
    const room = await sharedRoom(stage)
    const [dora, carl] = [await founder.person(`dora${tag}`), await other.person(`carl${tag}`)]
    for (const person of [dora, carl]) {
      await person.join(room, founder.name)
      for (const viewer of [alice, bob]) await sees(viewer, room, person, "join")
    }
    const levels = await alice.content(room, "m.room.power_levels")
    await alice.set(room, "m.room.power_levels", { ...levels, users: { ...levels.users, [bob.id]: 75 } })
    await hasState(bob, room, "m.room.power_levels", ({ users }) => users[bob.id] === 75)
    try {
      for (let round = 0; round < rounds; round++) {
        const first = round * 2 * changesOfEach
        await duringPartition(
          stage,
          changeRepeatedly(room, { moderator: alice, guests: [dora, carl] }, random, first),
          changeRepeatedly(room, { moderator: bob, guests: [carl, dora] }, random, first + changesOfEach)
        )
        await exchangeMessages(room, alice, bob)
        await exchangeMessages(room, bob, alice)
        await sameExtremities(stage, room)
        await assertSameState(room, alice, bob)
      }
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`)
    }
  }
}
