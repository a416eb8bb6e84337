/** What `Contacts` loads with the first request, for the memory of servers that have no address books. */
export { addressesOf, readJcard, readJcardText, readVcard, storedAsVcard, toStored } from "./Card.ts"
export { jcardSplitter, vcardSplitter } from "./CardSplitter.ts"
export { planMerge } from "./ContactMerge.ts"
