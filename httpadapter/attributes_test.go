package httpadapter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/denizenhq/denizen"
	"github.com/denizenhq/denizen/httpadapter"
)

func TestAttributesOfExistingClientsAreSetOnceDefined(t *testing.T) {
	w := newSecWorld(t, denizen.Options{}, httpadapter.Options{})
	for key, spelled := range map[string]string{
		httpadapter.AttributeFirstName: "mitter.user.profile.attribute.FirstName",
		httpadapter.AttributeLastName:  "mitter.user.profile.attribute.LastName",
		httpadapter.AttributeAvatarURL: "mitter.upa.AvatarURL",
		httpadapter.AttributeMobile:    "mitter.upa.Mobile",
		httpadapter.AttributeDOB:       "mitter.upa.DOB",
		httpadapter.AttributeBio:       "mitter.upa.Bio",
		httpadapter.AttributeGender:    "mitter.upa.Gender",
		httpadapter.AttributeEmail:     "mitter.upa.Email",
		httpadapter.AttributeStreet:    "mitter.upa.address.Street",
		httpadapter.AttributeCity:      "mitter.upa.address.City",
		httpadapter.AttributeState:     "mitter.upa.address.State",
		httpadapter.AttributeZip:       "mitter.upa.address.Zip",
		httpadapter.AttributeCountry:   "mitter.upa.address.Country",
	} {
		require.Equal(t, spelled, key)
		path := "/v1/users/me/profile/" + key
		w.do("POST", path, `{"value":"x"}`, bearer(w.aliceToken)).refused(t, 400, "invalid_parameter_set")
		require.Equal(t, 201, w.do("POST", "/v1/attribute-def/users", `{"key":"`+key+`"}`, app).status)
		require.Equal(t, 204, w.do("POST", path, `{"value":"x"}`, bearer(w.aliceToken)).status)
	}
}
