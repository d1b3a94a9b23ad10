// The console works without this script. With it pages change as what they show does.
'use strict'

// Only the server renders HTML, and only from here is it put into the page.
const policy = window.trustedTypes?.createPolicy('console', {createHTML: html => html}) ?? {createHTML: html => html}

// Times. The server writes them whole; here they count.
const plural = new Intl.RelativeTimeFormat('en', {numeric: 'always', style: 'long'})
const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]]

function relative(seconds) {
	const size = Math.abs(seconds)
	const [unit, of] = units.find(([, of]) => size >= of) ?? units.at(-1)
	return plural.format(Math.trunc(seconds / of), unit)
}

function clock(seconds) {
	if (seconds <= 0) return 'over'
	if (seconds >= 86400) return 'for ' + Math.floor(seconds / 86400) + ' d ' + Math.floor(seconds % 86400 / 3600) + ' h'
	const two = n => String(Math.floor(n)).padStart(2, '0')
	const text = two(seconds % 3600 / 60) + ':' + two(seconds % 60)
	return 'for ' + (seconds >= 3600 ? Math.floor(seconds / 3600) + ':' : '') + text
}

function tick() {
	for (const e of document.querySelectorAll('time')) {
		const at = Date.parse(e.dateTime), seconds = (at - Date.now()) / 1000
		e.title ||= e.textContent
		const text = 'left' in e.dataset ? clock(Math.ceil(seconds)) : relative(Math.min(seconds, -1))
		if (e.textContent !== text) e.textContent = text
	}
}
tick()
setInterval(tick, 1000)

// Parts. What has the focus keeps it, and nothing changes under a finger.
const held = new Map()
let pressed = false

function show(part) {
	if (pressed) held.set(part.id, part)
	else replace(part)
}

addEventListener('pointerdown', () => { pressed = true }, true)
for (const end of ['pointerup', 'pointercancel', 'dragend']) {
	addEventListener(end, () => setTimeout(() => {
		pressed = false
		held.forEach(replace)
		held.clear()
	}), true)
}

function replace({id, digest, html}) {
	const part = document.getElementById(id), focused = document.activeElement?.id
	if (!part || part.dataset.part === digest) return
	part.dataset.part = digest
	part.innerHTML = policy.createHTML(html)
	tick()
	if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus()
}

// The stream. A page that nobody sees has none.
const from = document.body.dataset.live, button = document.getElementById('live')
let stream, again, wait = 1000

function state(text, live) {
	button.textContent = text
	button.setAttribute('aria-pressed', live)
}

function close() {
	clearTimeout(again)
	stream?.close()
	stream = undefined
}

function open() {
	close()
	if (document.hidden || button.dataset.paused) return
	stream = new EventSource(from)
	stream.addEventListener('open', () => { wait = 1000; state('Live', true) })
	stream.addEventListener('part', e => show(JSON.parse(e.data)))
	stream.addEventListener('gone', () => { close(); location.reload() })
	stream.addEventListener('error', () => {
		state('Not live: trying', true)
		close()
		again = setTimeout(open, wait)
		wait = Math.min(wait * 2, 30000)
	})
}

if (from) {
	button.parentElement.hidden = false
	button.addEventListener('click', () => {
		const paused = !button.dataset.paused
		button.dataset.paused = paused ? 'yes' : ''
		if (paused) { close(); state('Paused', false) } else open()
	})
	document.addEventListener('visibilitychange', open)
	addEventListener('pagehide', close)
	addEventListener('pageshow', open)
}
