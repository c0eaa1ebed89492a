"""The formats that labs bring and want: readers (`VolumeSource`) and, in `writers`, what exports are written with."""
