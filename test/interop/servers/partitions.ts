/**
 * A room whose two servers are cut from each other again and again, while users of both change it in conflict: after each
 * time both have the same state and the same forward extremities.
 */
import { type Random, randomFrom } from "../../support/Seed.ts"
import type { Person } from "../synapse/Person.ts"
import { agree, apart, hasState, type Scene, type Stage, sees, shared, talk, until } from "./scenes.ts"

const rounds = 3
const changesOfEach = 8

/** Whoever changes the room, on one server, and whom the changes are about. */
interface Side {
  readonly speaker: Person
  readonly guests: ReadonlyArray<Person>
}

/** One change, which the rules may refuse. */
const changeSomething = async (room: string, { guests, speaker }: Side, random: Random, number: number) => {
  const guest = guests[random(guests.length)]!
  switch (random(8)) {
    case 0:
      return speaker.set(room, "m.room.topic", { topic: `topic ${number}` })
    case 1:
      return speaker.set(room, "org.greenroom.test", { number }, `key ${random(3)}`)
    case 2:
      return speaker.ban(room, guest)
    case 3:
      return speaker.unban(room, guest)
    case 4:
      return speaker.kick(room, guest)
    case 5:
      return guest.join(room)
    case 6: {
      const levels = await speaker.content(room, "m.room.power_levels")
      return speaker.set(room, "m.room.power_levels", { ...levels, users: { ...levels.users, [guest.id]: random(60) } })
    }
    default:
      return speaker.set(room, "m.room.join_rules", { join_rule: random(2) === 0 ? "public" : "invite" })
  }
}

const changeMuch = (room: string, side: Side, random: Random, first: number) => async () => {
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
    const room = await shared(stage)
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
        await apart(
          stage,
          changeMuch(room, { speaker: alice, guests: [dora, carl] }, random, first),
          changeMuch(room, { speaker: bob, guests: [carl, dora] }, random, first + changesOfEach)
        )
        await talk(room, alice, bob)
        await talk(room, bob, alice)
        await sameExtremities(stage, room)
        await agree(room, alice, bob)
      }
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`)
    }
  }
}
