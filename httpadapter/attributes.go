package httpadapter

// The keys of the standard attributes, as the existing clients of the API spell them. Like any
// other attribute each needs a definition, by [denizen.Directory.DefineAttribute], before it can
// be set.
const (
	AttributeFirstName = "mitter.user.profile.attribute.FirstName"
	AttributeLastName  = "mitter.user.profile.attribute.LastName"
	AttributeAvatarURL = "mitter.upa.AvatarURL"
	AttributeMobile    = "mitter.upa.Mobile"
	AttributeDOB       = "mitter.upa.DOB"
	AttributeBio       = "mitter.upa.Bio"
	AttributeGender    = "mitter.upa.Gender"
	AttributeEmail     = "mitter.upa.Email"
	AttributeStreet    = "mitter.upa.address.Street"
	AttributeCity      = "mitter.upa.address.City"
	AttributeState     = "mitter.upa.address.State"
	AttributeZip       = "mitter.upa.address.Zip"
	AttributeCountry   = "mitter.upa.address.Country"
)
