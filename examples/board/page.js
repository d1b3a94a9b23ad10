'use strict'
const $ = id => document.getElementById(id)
const wait = ms => new Promise(resolve => setTimeout(resolve, ms))

// A window is a device of its own, so that closing one does not take its person from another.
const device = 'window-' + Array.from(crypto.getRandomValues(new Uint8Array(6)), b => b.toString(16).padStart(2, '0')).join('')

let board // what /board said; undefined: nobody is signed in here
let offset = 0 // of the server's clock from this one, in ms
let source // the stream, if it is open
let isLive = false // what is shown is what is
let wasLive = false // it was, at some time
let tries = 0 // to open the stream, in a row
let leaving = new AbortController() // ends what is under way
const people = new Map() // by id: {id, name, note, state, typing, setAt, until, seconds, next, card}

// Chains. Each state begins when the one before has had its time, whatever becomes of this page.
const up = name => 'mitter.up.' + name
const states = new Map([[up('Online'), 'online'], [up('Away'), 'away']])
function chain([type, timeToLive], ...rest) {
  return rest.length ? {type, timeToLive, expiresTo: chain(...rest)} : {type, timeToLive}
}
const here = () => chain([up('Online'), board.online], [up('Away'), board.away], [up('Offline')])
const hidden = () => chain([up('Away'), board.away], [up('Offline')])
// A second, so that a page that is only loaded anew does not make its person blink.
const left = () => chain([up('Online'), 1], [up('Offline')])
// Others see the best of somebody's devices, and of equals the one that began later. So what says
// that somebody types is where this Online leads to.
const typing = () => chain([up('Online'), 4], ['Typed', 1])

async function send(method, path, body) {
  const answer = await fetch(path, {
    method, body: body && JSON.stringify(body),
    headers: body ? {'Content-Type': 'application/json'} : {},
    signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(5000)]),
  })
  if (answer.status === 401 && path !== '/join') ended()
  return answer
}

const set = (on, p) => send('POST', '/v1/users/me/presence', {device: on, ...p})

// --- This window's own presence.

let beating // the timer of the next heartbeat

async function beat() {
  clearTimeout(beating)
  if (!board || unloading) return
  let reached = false
  try {
    reached = (await set(device, document.hidden ? hidden() : here())).status < 500
  } catch { /* it was not */ }
  if (!board || unloading) return // by now
  clearTimeout(beating)
  beating = setTimeout(beat, (document.hidden ? board.away : board.online) / 3 * (reached ? 1 : .5) * 1000)
  // A stream that is cut may just be silent.
  if (source && (!reached || source.readyState !== EventSource.OPEN)) lost()
}

let unloading = false

function leavePage() {
  unloading = true
  clearTimeout(beating)
  if (!board) return
  leaving.abort() // a heartbeat must not come after this
  leaving = new AbortController()
  const body = new Blob([JSON.stringify({device, ...left()})], {type: 'application/json'})
  navigator.sendBeacon('/v1/users/me/presence', body)
  stop()
}

addEventListener('pagehide', leavePage)
addEventListener('pageshow', event => {
  if (!event.persisted) return // it is not back, but new
  unloading = false
  start()
})
for (const change of ['online', 'offline']) {
  addEventListener(change, () => {
    tries = 0
    if (board) lost()
  })
}
document.addEventListener('visibilitychange', async () => {
  if (!board || unloading) return
  clearTimeout(beating)
  if (document.hidden) {
    // Nobody looks. Over HTTP/1.1 a browser has six connections for all of its windows.
    stop()
    // A page that is closed is hidden just before or just after: its last word is the beacon.
    beating = setTimeout(beat, 200)
    return
  }
  await beat()
  if (!source) watch()
})

// --- Others' presence.

let opening // the timer of the next try

function stop() {
  clearTimeout(opening)
  source?.close()
  source = undefined
}

// watch opens the stream, which begins with the present state of everybody.
function watch() {
  stop()
  if (!board || document.hidden) return
  source = new EventSource('/v1/users/' + board.seats.join(',') + '/presence')
  source.addEventListener('presence', event => seen(JSON.parse(event.data)))
  source.addEventListener('missed', reload)
  source.onopen = () => {
    tries = 0
    isLive = wasLive = true
    beat()
    draw()
  }
  source.onerror = lost
}

// lost shows that nobody knows, which is not that everybody is gone, and tries again: soon, and
// then less often, and not all windows at once.
function lost() {
  isLive = false
  stop()
  const pause = Math.min(5000, 500 * 2 ** tries++) * (.75 + Math.random() / 2)
  opening = setTimeout(async () => {
    if (await load()) watch()
    else if (board) lost()
  }, pause)
  draw()
}

// load reads who is on the board. It reports whether it did.
async function load() {
  let is
  try {
    const answer = await send('GET', '/board')
    if (!answer.ok) return false
    is = await answer.json()
  } catch { return false }
  board = is
  offset = is.now - Date.now()
  const there = new Set()
  for (const p of is.people) {
    there.add(p.id)
    people.set(p.id, {...people.get(p.id), ...p})
  }
  for (const [id, p] of people) {
    if (there.has(id)) continue
    p.card?.remove()
    people.delete(id)
  }
  draw()
  return true
}

let reloading
function reload() {
  reloading ??= setTimeout(async () => {
    reloading = undefined
    if (board) await load()
  }, 200 + 300 * Math.random()) // not all windows at once
}

// seen takes in what the stream, or a look, says of somebody.
function seen({userId: {identifier: id}, presence: is}, quiet) {
  let p = people.get(id)
  const none = is.presence === null && is.setTimeMs === 0
  if (!p) {
    if (none) return // a free seat
    people.set(id, p = {id, name: '', note: ''})
    reload()
  }
  const was = p.state, typed = p.typing
  const type = is.presence?.type
  p.state = states.get(type) ?? 'gone' // anybody may set a state of any name
  p.typing = p.state === 'online' && is.presence.expiresTo?.type === 'Typed'
  p.setAt = is.setTimeMs
  p.until = is.untilMs
  p.seconds = is.presence?.timeToLive
  p.next = is.presence?.expiresTo?.type
  p.looked = 0
  if (was && none || typed && !p.typing) reload() // the seat was left, or there is a new note
  if (!quiet && was && p.name && id !== board.me) {
    if (was !== p.state) say(p.name + ' is ' + p.state)
    else if (p.typing && !typed) say(p.name + ' is typing')
  }
  draw()
}

// look reads the presence of those whose state should have ended by now: no event says that a
// heartbeat moved its end.
async function look() {
  const due = [...people.values()].filter(p => p.until && p.until <= now() && !(p.looked > Date.now() - 2000))
  if (!due.length || !isLive) return
  for (const p of due) p.looked = Date.now()
  try {
    const answer = await send('GET', '/v1/users/' + due.map(p => p.id).join(',') + '/presence')
    if (!answer.ok) return
    for (const is of [await answer.json()].flat()) {
      const p = people.get(is.userId.identifier)
      // What the stream said meanwhile is as new.
      if (p?.looked && is.presence.setTimeMs === p.setAt) seen(is, true)
    }
  } catch { /* the heartbeat notices */ }
}

const now = () => Date.now() + offset

setInterval(() => {
  if (!board || document.hidden) return
  look()
  draw()
}, 1000)

// --- What is shown. Only as text: names and notes are what strangers typed.

function make(tag, name, ...children) {
  const e = document.createElement(tag)
  if (name) e.className = name
  e.append(...children)
  return e
}

function text(e, s) { if (e.textContent !== s) e.textContent = s }

function say(s) { $('said').textContent = s }

function span(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000))
  if (s < 100) return s + ' s'
  return s < 6000 ? Math.round(s / 60) + ' min' : Math.round(s / 3600) + ' h'
}

function newCard(p) {
  const e = {face: make('div', 'face'), name: make('bdi'), you: make('span'), word: make('span', 'word'), left: make('span', 'left'), note: make('div', 'note')}
  e.note.dir = 'auto'
  e.left.setAttribute('aria-hidden', 'true') // changes each second
  const ring = make('div', 'ring', e.face, make('span', 'dot'))
  ring.setAttribute('aria-hidden', 'true')
  p.card = make('li', '', ring, make('div', 'who', make('div', 'name', e.name, e.you), make('div', 'state', e.word, e.left), e.note))
  p.card.dataset.id = p.id
  let hue = 0
  for (const c of p.id) hue = (hue * 31 + c.codePointAt(0)) % 360
  ring.style.setProperty('--hue', hue * 47 % 360)
  p.parts = {...e, ring}
}

function words(p) {
  if (p.typing) return ['typing', '']
  if (!isLive) return [p.state, '']
  if (p.state === 'gone') return ['gone', p.setAt ? 'for ' + span(now() - p.setAt) : '']
  if (!p.until || p.until <= now()) return [p.state, '']
  return [p.state, (p.next === up('Away') ? 'away in ' : 'gone in ') + span(p.until - now())]
}

function draw() {
  if (!board) return
  document.body.classList.toggle('stale', !isLive)
  text($('banner'), isLive ? '' : wasLive ? 'Not connected. This is how it was; trying again.' : 'Connecting…')
  const rank = p => p.id === board.me ? -1 : ['online', 'away', 'gone'].indexOf(p.state)
  const shown = [...people.values()].filter(p => p.state && p.name)
  shown.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1))
  shown.forEach((p, i) => {
    if (!p.card) newCard(p)
    const [word, left] = words(p)
    const {face, name, you, ring} = p.parts
    p.card.className = p.state + (p.typing ? ' typing' : '')
    text(face, [...p.name][0].toUpperCase())
    text(name, p.name)
    text(you, p.id === board.me ? ' (you)' : '')
    text(p.parts.word, word)
    text(p.parts.left, left)
    text(p.parts.note, p.note)
    const part = p.until && p.seconds ? (p.until - now()) / (p.seconds * 1000) : 0
    ring.style.setProperty('--part', Math.min(1, Math.max(0, part)).toFixed(3))
    if ($('people').children[i] !== p.card) $('people').insertBefore(p.card, $('people').children[i] ?? null)
  })
  const count = state => shown.filter(p => p.state === state).length
  text($('count'), (isLive ? '' : 'Last known: ') + `${count('online')} online, ${count('away')} away, ${count('gone')} gone`)
}

function show(signedIn) {
  $('join').hidden = signedIn
  for (const id of ['say', 'count', 'people', 'leave']) $(id).hidden = !signedIn
}

// --- Coming, leaving, notes.

async function start() {
  if (await load()) {
    show(true)
    $('note').value = people.get(board.me)?.note ?? ''
    await beat()
    watch()
    return true
  }
  if (board === undefined && $('join').hidden) {
    text($('banner'), 'The server cannot be reached. Trying again.')
    await wait(2000)
    return start()
  }
}

// ended shows that nobody is signed in here any more.
function ended() {
  if (!board && !$('join').hidden) return
  const was = board
  board = undefined
  isLive = wasLive = false
  stop()
  clearTimeout(beating)
  for (const p of people.values()) p.card?.remove()
  people.clear()
  document.body.classList.remove('stale')
  show(false)
  text($('banner'), was ? 'You are signed out: you left in another window, or your seat was given up.' : '')
  $(was ? 'title' : 'name').focus()
}

$('join').onsubmit = async event => {
  event.preventDefault()
  try {
    const answer = await send('POST', '/join', {name: $('name').value})
    if (!answer.ok) return text($('banner'), (await answer.json()).message)
    text($('banner'), '')
    await start()
    $('note').focus()
  } catch {
    text($('banner'), 'The server cannot be reached. Try again.')
  }
}

$('leave').onclick = async () => {
  try {
    if (!(await send('POST', '/leave')).ok) return
  } catch {
    return text($('banner'), 'The server cannot be reached. Try again.')
  }
  if (!board) return
  ended()
  text($('banner'), 'You left the board.')
}

let typedAt = 0
$('note').oninput = () => {
  if (!board || Date.now() - typedAt < 2000) return // as a heartbeat
  typedAt = Date.now()
  set('typing', typing()).catch(() => {})
}

$('say').onsubmit = async event => {
  event.preventDefault()
  const value = $('note').value
  try {
    await set('typing', typing()) // its end lets others read the note
    const answer = await send('POST', '/v1/users/me/profile/note', {key: 'note', value})
    await send('DELETE', '/v1/users/me/presence?device=typing')
    typedAt = 0
    if (!answer.ok) return text($('banner'), (await answer.json()).message)
    say('Shared')
  } catch {
    text($('banner'), 'The server cannot be reached. Try again.')
  }
}

start()
