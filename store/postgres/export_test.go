package postgres

// Topic is what a store in a schema listens to.
func Topic(schema string) string {
	n, _ := named(schema)
	return n.topic
}
