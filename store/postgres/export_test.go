package postgres

// Topic returns the channel that a store in the schema listens on.
func Topic(schema string) string {
	n, _ := namesFor(schema)
	return n.topic
}
