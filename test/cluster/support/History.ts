/** Compares the messages that clients received with those of the room, and finds messages that are lost, doubled or out of order. */

export interface History {
  /** The event IDs that were returned to the sender, by the unique text of the message. */
  readonly acknowledged: ReadonlyMap<string, string>
  /** The messages of the room in its order. */
  readonly room: ReadonlyArray<Message>
  /** The messages that each follower received, from the first one on. */
  readonly followers: ReadonlyArray<ReadonlyArray<Message>>
}

export interface Message {
  readonly eventId: string
  readonly text: string
}

const duplicates = (values: ReadonlyArray<string>): ReadonlyArray<string> =>
  values.filter((value, index) => values.indexOf(value) !== index)

/** The faults in what a follower received. */
const violationsOf = (
  room: ReadonlyArray<Message>,
  received: ReadonlyArray<Message>,
  follower: string
): Array<string> => {
  const ids = received.map(({ eventId }) => eventId)
  const found = duplicates(ids).map((id) => `${follower} got ${id} twice`)
  const seen = new Set(ids)
  for (const { eventId, text } of room) if (!seen.has(eventId)) found.push(`${follower} lacks ${eventId} (${text})`)
  const positions = new Map(room.map(({ eventId }, index) => [eventId, index]))
  for (const [index, id] of ids.entries()) {
    const position = positions.get(id)
    if (position === undefined) found.push(`${follower} got ${id}, which is not in the room`)
    else if (index > 0 && position < (positions.get(ids[index - 1]!) ?? -1))
      found.push(`${follower} got ${id} out of order`)
  }
  return found
}

/** A line for each violation. */
export const violations = ({ acknowledged, followers, room }: History): ReadonlyArray<string> => {
  const found = duplicates(room.map(({ text }) => text)).map((text) => `${text} is in the room twice`)
  const stored = new Map(room.map(({ eventId, text }) => [text, eventId]))
  for (const [text, eventId] of acknowledged) {
    const storedId = stored.get(text)
    if (storedId === undefined) found.push(`${text} was acknowledged and is lost`)
    else if (storedId !== eventId) found.push(`${text} was acknowledged as ${eventId} and is ${storedId}`)
  }
  return [...found, ...followers.flatMap((received, index) => violationsOf(room, received, `follower ${index}`))]
}
