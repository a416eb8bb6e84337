/**
 * Compares the messages that clients received with those of the room: finds messages that were lost, sent twice, or out of
 * order.
 */

export interface History {
  /** The event ID that the sender got, by the text of the message. Texts are unique. */
  readonly acknowledged: ReadonlyMap<string, string>
  /** The messages of the room in its order. */
  readonly room: ReadonlyArray<Message>
  /** The messages as each follower got them, from the first one on. */
  readonly followers: ReadonlyArray<ReadonlyArray<Message>>
}

export interface Message {
  readonly eventId: string
  readonly text: string
}

const duplicates = (values: ReadonlyArray<string>): ReadonlyArray<string> =>
  values.filter((value, index) => values.indexOf(value) !== index)

/** The faults in what a follower received. */
const violationsOf = (room: ReadonlyArray<Message>, got: ReadonlyArray<Message>, who: string): Array<string> => {
  const ids = got.map(({ eventId }) => eventId)
  const found = duplicates(ids).map((id) => `${who} got ${id} twice`)
  const seen = new Set(ids)
  for (const { eventId, text } of room) if (!seen.has(eventId)) found.push(`${who} lacks ${eventId} (${text})`)
  const places = new Map(room.map(({ eventId }, index) => [eventId, index]))
  for (const [index, id] of ids.entries()) {
    const place = places.get(id)
    if (place === undefined) found.push(`${who} got ${id}, which is not in the room`)
    else if (index > 0 && place < (places.get(ids[index - 1]!) ?? -1)) found.push(`${who} got ${id} out of order`)
  }
  return found
}

/** Everything that is wrong, a line each; none where all is well. */
export const violations = ({ acknowledged, followers, room }: History): ReadonlyArray<string> => {
  const found = duplicates(room.map(({ text }) => text)).map((text) => `${text} is in the room twice`)
  const stored = new Map(room.map(({ eventId, text }) => [text, eventId]))
  for (const [text, eventId] of acknowledged) {
    const there = stored.get(text)
    if (there === undefined) found.push(`${text} was acknowledged and is lost`)
    else if (there !== eventId) found.push(`${text} was acknowledged as ${eventId} and is ${there}`)
  }
  return [...found, ...followers.flatMap((got, index) => violationsOf(room, got, `follower ${index}`))]
}
