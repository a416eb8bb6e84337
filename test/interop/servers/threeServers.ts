/**
 * Three servers in one room. Messages reach all of them. During a partition of all three, each changes state in conflict with the others;
 * afterwards all have the same state and the same forward extremities.
 */
import { setTimeout as delay } from "node:timers/promises"
import type { Person } from "../synapse/Person.ts"
import type { Server } from "./Server.ts"
import { hasState, idsOf, sees, until } from "./scenes.ts"

/** Three servers. The first one founds the room. */
export interface Trio {
  readonly version: number
  readonly servers: readonly [Server, Server, Server]
  /** A part of names, unique to the run. */
  readonly tag: string
}

const allReceive = async (people: ReadonlyArray<Person>, room: string, event: string): Promise<void> => {
  for (const person of people) await until(`${person.id} gets ${event}`, () => person.has(room, event))
}

const exchangeAmongAll = async (people: ReadonlyArray<Person>, room: string): Promise<void> => {
  for (const person of people) await allReceive(people, room, await person.sendText(room, `from ${person.id}`))
}

const assertSame = async (what: string, reads: ReadonlyArray<() => Promise<ReadonlyArray<string>>>): Promise<void> => {
  let seen: ReadonlyArray<ReadonlyArray<string>> = []
  await until(what, async () => {
    seen = await Promise.all(reads.map((read) => read()))
    const [first, ...others] = seen.map((entry) => JSON.stringify([...entry].sort()))
    return first !== "[]" && others.every((other) => other === first)
  }).catch(() => {
    const common = seen.reduce((all, entry) => all.filter((id) => entry.includes(id)))
    const differing = seen.map((entry) => entry.filter((id) => !common.includes(id)))
    throw new Error(`The servers differ in ${what}: ${JSON.stringify(differing)}`)
  })
}

export const threeServers = async ({ servers, tag, version }: Trio): Promise<void> => {
  const [first, second, third] = servers
  const [alice, bob, carl] = await Promise.all([
    first.person(`alice${tag}`),
    second.person(`bob${tag}`),
    third.person(`carl${tag}`)
  ])
  const [dora, eve] = [await second.person(`dora${tag}`), await third.person(`eve${tag}`)]
  const people = [alice, bob, carl]
  const room = await alice.createRoom({ preset: "public_chat", room_version: `${version}` })
  // A server sends events to the servers in the room that it knows of, so each must have all joins before the next one.
  const inside = [alice]
  for (const person of [bob, carl, dora, eve]) {
    await person.join(room, first.name)
    inside.push(person)
    for (const viewer of inside) await sees(viewer, room, person, "join")
  }
  await exchangeAmongAll(people, room)
  const levels = await alice.content(room, "m.room.power_levels")
  const users = { ...levels.users, [bob.id]: 60, [carl.id]: 50 }
  const events = { ...levels.events, "m.room.power_levels": 60 }
  await alice.set(room, "m.room.power_levels", { ...levels, users, events })
  for (const viewer of people) {
    await hasState(viewer, room, "m.room.power_levels", ({ users }) => users[carl.id] === 50)
  }
  await eve.leave(room)
  for (const viewer of people) await sees(viewer, room, eve, "leave")

  await Promise.all(servers.map(({ link }) => link.down()))
  try {
    await alice.ban(room, eve)
    await alice.ban(room, dora)
    await alice.set(room, "m.room.topic", { topic: "of the first" })
    await alice.set(room, "m.room.power_levels", { ...levels, users: { ...users, [carl.id]: 0 }, events })
    await dora.set(room, "m.room.member", { membership: "join", displayname: "Dora" }, dora.id)
    await bob.set(room, "m.room.topic", { topic: "of the second" })
    await bob.set(room, "m.room.power_levels", { ...levels, users, events: { ...events, "m.room.name": 60 } })
    await dora.sendText(room, "still here")
    await eve.join(room)
    await carl.set(room, "m.room.topic", { topic: "of the third" })
    await carl.set(room, "m.room.name", { name: "third" })
    await eve.sendText(room, "back again")
  } finally {
    await Promise.all(servers.map(({ link }) => link.up()))
  }
  await delay(1_000)
  // A request of each server shows the others that it is reachable again.
  for (const person of people) await person.sendText(room, `${person.id} is reachable again`)
  await exchangeAmongAll(people, room)
  await assertSame(
    "the state",
    people.map((person) => async () => [...(await idsOf(person, room))].map(([key, id]) => `${key} ${id}`))
  )
  for (const viewer of people) {
    await sees(viewer, room, dora, "ban")
    await sees(viewer, room, eve, "ban")
  }
  await allReceive(people, room, await alice.sendText(room, "after all"))
  await assertSame(
    "the forward extremities",
    servers.map((server) => () => server.extremities(room))
  )
}
