"""Where does it start? Both sides run on the same data and are counted, tensor by tensor."""
