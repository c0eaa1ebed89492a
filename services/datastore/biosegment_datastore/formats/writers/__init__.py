"""Writers of the formats that labs want: one module each, chosen through `catalogue`."""
